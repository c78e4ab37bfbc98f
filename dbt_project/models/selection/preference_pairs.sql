-- One row per prompt: the decided battle of two whole answers with the largest gap of at least K; the winner may be the target.
{{ rows_of('preference', preference_candidates()) }}
