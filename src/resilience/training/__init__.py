"""Trainings by the names that a config gives them: point estimates, ensembles, and posteriors."""
