"""Text in, experts out: which of the known experts should answer a prompt, and why."""
