"""Models and whatever else answers a conversation: vLLM here, servers, recordings.

A `model` opens its `engine`, which is led through `conversations`; `asking` does so for what a
store lacks. `structured` is what is asked for as JSON, `json_output` how it is read.
"""
