"""The backend `external`: the user's own trainer script, in the user's own environment, with the published trainer's habits."""
