module docker-cache/sandbox/pause

go 1.25
