"""OpenAI's surface: `/v1/...`, and `/tokenize` beside it as vLLM has it.

Each form has a file: what its body may hold, how it comes to a GenerateRequest, how answers look. `fields` holds what
they share, `formats` the many ways to ask for a structured answer, `naming` what `model` means.
"""
