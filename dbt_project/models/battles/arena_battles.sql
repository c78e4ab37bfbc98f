{{ battles_from(source('lake', 'arena_judgments')) }}
