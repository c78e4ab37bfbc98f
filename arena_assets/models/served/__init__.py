"""Models behind OpenAI-compatible servers.

`openai_engine` leads conversations with a `fleet` of servers: `parameters` is what a request says,
`envelope` how an answer is read, `problems` and `connections` what follows where there is none.
"""
