"""The loop: an arena, the hand-over from round to round, what is out of date, what a run takes."""
