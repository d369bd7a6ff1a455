#!/bin/bash
# postgrad as an agent of PostTrainBench: put this file at agents/postgrad/solve.sh of a clone of the benchmark.
# The harness starts it in the task folder with PROMPT and AGENT_CONFIG (`playbook`, or a LiteLLM model).
set -u

# What pip installs: a wheel, or a repository. The harness copies this file alone into its container.
POSTGRAD_SOURCE="${POSTGRAD_SOURCE:-postgrad[train,eval]}"

TASK_PYTHON="$(command -v python3)"     # evaluate.py runs with the task's own packages
ENVIRONMENT="$PWD/postgrad_environment" # training with ours
export POSTGRAD_HOME="$PWD/postgrad_home"

# A language model as the roles' mind finds its key where LiteLLM looks for it; none of them writes training data.
if [[ "${AGENT_CONFIG:-playbook}" == openai/* ]]; then export OPENAI_API_KEY="${OPENAI_API_KEY:-${CODEX_API_KEY:-}}"; fi

if command -v uv >/dev/null; then
    uv venv --quiet --python 3.11 "$ENVIRONMENT" &&
        uv pip install --quiet --python "$ENVIRONMENT/bin/python" "$POSTGRAD_SOURCE"
else
    "${POSTGRAD_PYTHON:-python3}" -m venv "$ENVIRONMENT" &&
        "$ENVIRONMENT/bin/python" -m pip install --quiet "$POSTGRAD_SOURCE"
fi || { echo "postgrad could not be installed; there will be no final_model"; exit 1; }

"$ENVIRONMENT/bin/postgrad" posttrainbench solve . --brain "${AGENT_CONFIG:-playbook}" --python "$TASK_PYTHON" \
    ${POSTGRAD_GOAL:+--goal "$POSTGRAD_GOAL"} &
WORK=$!
trap 'kill -TERM "$WORK"' TERM INT # the harness's time-out: the run is ended, and final_model stays
wait "$WORK" || wait "$WORK"
CODE=$?
rm -rf "$ENVIRONMENT" # gigabytes of packages that the harness would copy; what was run stays in postgrad_home
exit "$CODE"
