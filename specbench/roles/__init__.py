"""A model by the role that it plays: what all roles share, and the draft on the edge."""
