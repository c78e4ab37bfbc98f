"""Models and whatever else answers a conversation: vLLM here, servers, recordings."""
