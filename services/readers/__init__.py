"""Readers: their profiles, the replies to them, their views."""
