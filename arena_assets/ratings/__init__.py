"""Ratings: Bradley-Terry strengths on the Elo scale, with intervals over prompts."""
