"""postgrad as an agent of PostTrainBench: it works on a task folder, and reads results into the leaderboard."""
