"""The cloud's side of the wire: one loaded model that serves many edges."""
