"""How the roles work together: one LangGraph state machine over the shared memory."""

import os

# Read by langgraph-checkpoint when it is first imported: checkpoints hold plain data only, so nothing else may load.
os.environ.setdefault("LANGGRAPH_STRICT_MSGPACK", "true")
