"""Tests: unit, integration, acceptance (through running processes), faults."""
