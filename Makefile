.PHONY: test race check bench hostile demo crash

test:
	go test work

race:
	go test -race work

check:
	bash .ci/run

bench:
	go test ./session -run '^$$' -bench 'Call|FirstCalls|Upload'
	go test ./tenant -run '^$$' -bench 'Acquire|Idle'
	go test ./tenant/webhook -run '^$$' -bench Receive
	go test ./tenant/seal ./tenant/sqlitestore ./tenant/pgstore -run '^$$' -bench .
	go test ./ratelimit -run '^$$' -bench .
	go test ./internal/bench -run '^$$' -bench .
	go test ./health ./health/usage -run '^$$' -bench .

hostile:
	TGFLEET_HOSTILE_RUNS=200 go test ./session -run Hostile -v -timeout 60m
	go test ./session -run '^$$' -fuzz FuzzCutPoint -fuzztime 5m

demo:
	go run ./examples/server -demo -for 10s

crash:
	go run ./examples/crash
	go run ./examples/crash/updates
	go run ./examples/crash/updates -source polling
