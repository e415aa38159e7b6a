"""Signs, messages, tables and errors: the base of all other packages."""
