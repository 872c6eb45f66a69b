"""What decides whether a session is green beside the items themselves: requirements, a baseline, waivers."""
