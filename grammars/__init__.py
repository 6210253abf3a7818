"""Grammar text in, permission per token out. Knows no model, no HTTP and no torch; `server` and `engine` call
it.

`vocabulary` gives llama.cpp the tokens, `library` holds our grammars, `compiler` turns text into a shareable
`CompiledGrammar`, and every sequence gets its own `matcher.Matcher` from it.
"""
