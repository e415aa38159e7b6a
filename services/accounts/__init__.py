"""Who may use the operators' page, and who did what: accounts, sessions, tokens, sign-in limits, the audit."""
