"""Texts: written under a lease, served from memory or PostgreSQL, delivered to waiting readers."""
