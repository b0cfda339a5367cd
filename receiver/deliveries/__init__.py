"""Deliveries: a request arrives, proves itself, is stored as it came, and is answered."""
