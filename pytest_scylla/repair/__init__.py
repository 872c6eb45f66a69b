"""The repair: from findings to the cheapest action that makes them go away."""
