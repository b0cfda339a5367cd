"""Reconcile: the provider's delivery log against the stored deliveries. So far, its tables."""
