"""Deliveries: a request arrives, is verified, stored as received, and answered."""
