#!/bin/sh
# What Slurm runs on a job's first node, in the job's folder: PYTHON SUPERVISOR FOLDER. The order lies in the folder.
exec "$1" -I "$2" "$3"
