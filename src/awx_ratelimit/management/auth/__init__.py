"""Access tokens: JSON Web Tokens signed elsewhere and verified here."""
