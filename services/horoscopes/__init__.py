"""Texts: written under a lease, served, delivered to those who wait."""
