#!/bin/bash
# The replica's clock: it says what PostTrainBench's timer.sh says.
left=$(($(cat "@DEADLINE@") - $(date +%s)))
if [ "$left" -le 0 ]; then
    echo "Timer expired!"
else
    echo "Remaining time (hours:minutes):"
    printf "%d:%02d\n" $((left / 3600)) $((left % 3600 / 60))
fi
