"""Other people's clients against the running server: `make test-clients`. They live in an environment of their own."""
