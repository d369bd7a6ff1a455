"""What LangChain's middleware lacks around a role's loop: its course, its window, its tool calls."""
