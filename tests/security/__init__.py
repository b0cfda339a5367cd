"""Attacks, against the real web process and the real processing."""
