{{ battles_from(source('lake', 'judgments')) }}
