"""How times are written where a template does not say how."""
