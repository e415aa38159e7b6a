"""Readers: their profiles, what is said to them, what they viewed."""
