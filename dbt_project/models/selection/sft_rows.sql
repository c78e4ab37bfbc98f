-- One row per prompt on which the target lost to the best whole answer by at least K: learn the winner's answer.
{{ rows_of('sft', sft_candidates()) }}
