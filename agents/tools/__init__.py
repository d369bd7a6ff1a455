"""Tools that the roles have beside those of their craft: people's own, a scratch interpreter, and the team's memory."""
