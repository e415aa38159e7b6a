"""Migrations, one file for each, in order."""
