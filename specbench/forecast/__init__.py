"""What methods would take elsewhere: acceptance traces, virtual runs, replays and plans."""
