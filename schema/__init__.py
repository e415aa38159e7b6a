"""What is stored and what is said: signs, messages, tables, errors. Imports nothing of ours."""
