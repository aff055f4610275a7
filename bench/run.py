#!/usr/bin/env python3
"""Measures sessiond beside its limits and its peers, on one machine, in one run: `just bench`. README.md says what it needs."""

import argparse
import json
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import threading
import time
import uuid

import report
from load import CONNECTIONS, at_rate, in_turns, wrk
from machine import DEVICE, HERE, ROOT, RUST, SERVICE_KEY, USER_AGENT, Machine, Sessiond, call, free_port, run, token, wait_for_port

SESSIONS = 1000


class Bench:
    def __init__(self, arguments):
        self.rounds, self.seconds, self.rows = arguments.rounds, arguments.seconds, arguments.rows
        self.machine = Machine()

    def requests(self, lines):
        """A file of requests for wrk."""
        path = self.machine.dir / f"requests-{uuid.uuid4()}"
        path.write_text("".join(f"{path}\t{header}\n" for path, header in lines))
        return path

    def callers(self, node, count=SESSIONS):
        """Sessions of as many users, each asked for with its own token."""
        lines = []
        for _ in range(count):
            user_id = str(uuid.uuid4())
            session_id = node.sign_in(user_id)
            lines.append((f"/api/v1/sessions/{session_id}", f"Authorization: Bearer {token(user_id, session_id)}"))
        return lines

    def compare(self, contenders):
        """Each is a port, a process and its requests."""
        measure = lambda one: wrk(one[0], one[2], self.seconds, one[1])
        return in_turns(contenders, self.rounds, measure)

    def body_of(self, node, line):
        path, header = line
        status, headers, body = call("GET", f"http://127.0.0.1:{node.port}{path}", headers=dict([header.split(": ", 1)]))
        assert status == 200, body
        return body, headers["cache-status"]

    def constant(self, body):
        file, port = self.machine.dir / "body", free_port()
        file.write_text(body)
        process = self.machine.start([RUST / "constant", port, file])
        wait_for_port(port, process)
        return port, process

    def near(self):
        """What the near cache answers, beside an answer that is always the same; the p99 at half of the rate."""
        self.machine.create_database("near")
        node = Sessiond(self.machine, "near")
        lines = self.callers(node)
        for line in lines:
            body, _ = self.body_of(node, line)
        assert "hit; detail=near" in self.body_of(node, lines[0])[1]
        port, constant = self.constant(body)
        requests = self.requests(lines)
        contenders = {"constant": (port, constant, requests), "sessiond": (node.port, node.process, requests)}
        result = {"throughput": self.compare(contenders)}

        rate = result["throughput"]["sessiond"]["rps"] / 2
        (path, header), log = lines[0], self.machine.dir / "h2load.log"
        measure = lambda port: at_rate(port, path, header, rate, self.seconds, log)
        result["half_rate"] = in_turns({"constant": port, "sessiond": node.port}, self.rounds, measure)
        self.machine.stop(constant)
        node.stop()
        return result

    def redis(self):
        """What Redis answers, beside one bare GET; what a session takes there."""
        self.machine.create_database("redis")
        node = Sessiond(self.machine, "redis", near_entries=0)
        self.machine.redis("FLUSHALL")
        lines = self.callers(node)
        for line in lines:
            body, _ = self.body_of(node, line)
        assert "hit; detail=redis" in self.body_of(node, lines[0])[1]
        keys = self.machine.redis("--raw", "DBSIZE")
        memory = self.machine.redis("--raw", "EVAL", "local n = 0 for _, key in ipairs(redis.call('KEYS', '*')) do"
                                    " n = n + redis.call('MEMORY', 'USAGE', key) end return n", 0)
        for _, header in lines:
            self.machine.redis("SET", header.removeprefix("Authorization: Bearer "), body)
        port = free_port()
        bare = self.machine.start([RUST / "bare_redis", port, self.machine.redis_url])
        wait_for_port(port, bare)
        requests = self.requests(lines)
        contenders = {"bare GET": (port, bare, requests), "sessiond": (node.port, node.process, requests)}
        result = {"throughput": self.compare(contenders), "bytes_per_session": int(memory) / int(keys)}
        self.machine.stop(bare)
        node.stop()
        return result

    def pgbench(self, seconds):
        out = run(self.machine.postgres_bin / "pgbench", "-h", "127.0.0.1", "-p", self.machine.postgres_port, "-U", "postgres",
                  "-S", "-M", "prepared", "-n", "-c", CONNECTIONS, "-j", 2, "-T", seconds, "pgbench")
        return {"rps": float(re.search(r"tps = ([\d.]+)", out).group(1))}

    def database(self):
        """What PostgreSQL answers, no cache at all, beside pgbench's select-only transactions."""
        self.machine.create_database("database")
        self.machine.create_database("pgbench")
        run(self.machine.postgres_bin / "pgbench", "-h", "127.0.0.1", "-p", self.machine.postgres_port, "-U", "postgres", "-i",
            "-s", "10", "-q", "pgbench")
        node = Sessiond(self.machine, "database", redis=False, near_entries=0)
        lines = self.callers(node)
        assert "fwd=miss; detail=database" in self.body_of(node, lines[0])[1]
        requests = self.requests(lines)
        measure = lambda one: one()
        contenders = {
            "pgbench -S": lambda: self.pgbench(self.seconds),
            "sessiond": lambda: wrk(node.port, requests, self.seconds, node.process),
        }
        result = {"throughput": in_turns(contenders, self.rounds, measure)}
        node.stop()
        return result

    def peers(self):
        """Others that people use for this, each reading one session by its cookie or token."""
        machine = self.machine
        contenders = {}
        for name, near_entries in [("sessiond", 100_000), ("sessiond, no near cache", 0)]:
            database = "peer_" + str(near_entries)
            machine.create_database(database)
            node = Sessiond(machine, database, near_entries=near_entries)
            lines = self.callers(node)
            for line in lines:
                self.body_of(node, line)
            contenders[name] = (node.port, node.process, self.requests(lines))

        def peer(name, command, path, sign_in, **options):
            port = free_port()
            process = machine.start([str(part).replace("PORT", str(port)) for part in command], **options)
            wait_for_port(port, process)
            time.sleep(2)
            cookies = []
            for _ in range(SESSIONS):
                status, headers, text = call("POST", f"http://127.0.0.1:{port}{sign_in[0]}", sign_in[1])
                assert status < 300, f"{name}: {status} {text}"
                cookies.append("; ".join(value.split(";")[0] for value in headers.get_all("set-cookie")))
            _, _, body = call("GET", f"http://127.0.0.1:{port}{path}", headers={"cookie": cookies[0]})
            assert sign_in[2] in body, f"{name}: {body}"
            contenders[name] = (port, process, self.requests([(path, f"Cookie: {cookie}") for cookie in cookies]))

        for database in ["tower_sessions", "better_auth", "django"]:
            machine.create_database(database)
        device = ("/sign-in", DEVICE, DEVICE["device_info"])
        tower = [RUST / "tower_sessions_peer", "PORT", machine.redis_url, machine.postgres_url("tower_sessions")]
        peer("tower-sessions", tower, "/session", device)
        production = {"NODE_ENV": "production", "PATH": "/usr/bin:/usr/local/bin:/bin"}
        peer("express-session", ["node", "server.js", "PORT", machine.redis_url], "/session", device,
             cwd=HERE / "express", env=production)
        better = ["node", "server.js", "PORT", machine.redis_url, machine.postgres_url("better_auth")]
        peer("better-auth", better, "/api/auth/get-session", ("/api/auth/sign-in/anonymous", {}, "userId"),
             cwd=HERE / "better-auth", env=production)
        django = {"REDIS_URL": machine.redis_url, "POSTGRES_PORT": str(machine.postgres_port), "PATH": production["PATH"]}
        python = HERE / "django" / "venv" / "bin"
        run(python / "python", "peer.py", "migrate", cwd=HERE / "django", env=django)
        gunicorn = [python / "gunicorn", "-b", "127.0.0.1:PORT", "-k", "gthread", "-w", 2, "--threads", 8, "--keep-alive", 75,
                    "peer:application"]
        peer("Django cached_db", gunicorn, "/session", device, cwd=HERE / "django", env=django)
        result = {"throughput": self.compare(contenders)}
        for _, process, _ in contenders.values():
            machine.stop(process)
        return result

    def seed(self, database, rows, users, expired=False):
        """Rows as a database has them that has been in use for a month; without an event for each."""
        ends = "now() - interval '2 days'" if expired else "now() + interval '30 days'"
        began = "now() - interval '40 days'" if expired else "now() - random() * interval '29 days'"
        self.machine.sql(database, f"""
            SET session_replication_role = replica; SET synchronous_commit = off;
            INSERT INTO sessions (id, user_id, device_info, ip_address, location, user_agent, created_at, last_activity_at, expires_at)
            SELECT gen_random_uuid(), ('00000000-0000-4000-8000-' || lpad(to_hex((n % {users})::int), 12, '0'))::uuid,
                'Chrome on macOS', '203.0.113.7', 'Berlin, DE', '{USER_AGENT}', {began}, now(), {ends}
            FROM generate_series(1, {rows}) AS n""")
        self.machine.sql(database, "VACUUM ANALYZE sessions")

    def growth(self):
        """The miss path and the first page of a list, with ten thousand rows and with ten million."""
        nodes, reads, lists = {}, {}, {}
        for name, rows in [("small", 10_000), ("large", self.rows)]:
            database = f"growth_{name}"
            self.machine.create_database(database)
            node = Sessiond(self.machine, database, redis=False, near_entries=0)
            self.seed(database, rows, rows // 10)
            sample = min(100, SESSIONS * 110 / rows)
            some = f"SELECT id, user_id FROM sessions TABLESAMPLE BERNOULLI ({sample}) ORDER BY random() LIMIT {SESSIONS}"
            sampled = [row.split("|") for row in self.machine.sql(database, some).split("\n")]
            header = f"Authorization: Bearer {SERVICE_KEY}"
            read = self.requests((f"/service/v1/sessions/{id}?user_id={user}", header) for id, user in sampled)
            list = self.requests((f"/service/v1/users/{user}/sessions", header) for _, user in sampled)
            nodes[name] = node
            reads[name], lists[name] = (node.service_port, node.process, read), (node.service_port, node.process, list)
        result = {"rows": self.rows, "read": self.compare(reads), "list": self.compare(lists)}
        for node in nodes.values():
            node.stop()
        self.machine.sql("postgres", "DROP DATABASE growth_large")
        return result

    def revoke_all(self):
        """The end of ten thousand sessions of one user, with two nodes: how long, and what is written."""
        self.machine.create_database("revoke_all")
        nodes = [Sessiond(self.machine, "revoke_all") for _ in range(2)]
        times, logged, commands = [], [], []
        for _ in range(self.rounds):
            self.seed("revoke_all", 10_000, 1)
            written = lambda: int(self.machine.sql("revoke_all", "SELECT count(*) FROM revocation_log"))
            calls = lambda: int(re.search(r"total_commands_processed:(\d+)", self.machine.redis("INFO", "stats")).group(1))
            before, calls_before, began = written(), calls(), time.monotonic()
            status, _, text = nodes[0].service("DELETE", "/service/v1/users/00000000-0000-4000-8000-000000000000/sessions",
                                               {"reason": "bench"})
            times.append((time.monotonic() - began) * 1000)
            assert status == 200 and json.loads(text)["revoked_count"] == 10_000, text
            logged.append(written() - before)
            commands.append(calls() - calls_before)
        # The wait of one alone, which has nothing to write.
        waits = []
        for _ in range(20):
            user_id = str(uuid.uuid4())
            nodes[0].sign_in(user_id)
            began = time.monotonic()
            nodes[0].service("DELETE", f"/service/v1/users/{user_id}/sessions", {})
            waits.append((time.monotonic() - began) * 1000)
        for node in nodes:
            node.stop()
        return {"ms": statistics.median(times), "ms_of_one_session": statistics.median(waits), "log_rows": statistics.median(logged),
                "redis_commands": statistics.median(commands)}

    def activity(self):
        """Touches a second, and the statements that they cost the database."""
        self.machine.create_database("activity")
        node = Sessiond(self.machine, "activity", activity__window="5s")
        self.seed("activity", 50_000, 5_000)
        ids = self.machine.sql("activity", "SELECT id FROM sessions").split("\n")
        header = f"Authorization: Bearer {SERVICE_KEY}"
        requests = self.requests((f"/service/v1/sessions/{id}/activity", header) for id in ids)
        wrk(node.service_port, requests, 10, node.process, method="POST")
        statements = lambda: int(self.machine.sql("activity", "SELECT xact_commit FROM pg_stat_database WHERE datname = 'activity'"))
        time.sleep(2)
        samples = []
        for _ in range(self.rounds):
            before, began = statements(), time.monotonic()
            sample = wrk(node.service_port, requests, 10, node.process, method="POST")
            time.sleep(1.5)
            sample["statements_per_second"] = (statements() - before) / (time.monotonic() - began)
            samples.append(sample)
        node.stop()
        return {name: statistics.median(sample[name] for sample in samples) for name in samples[0]}

    def cleanup(self):
        """The p99 of reads at a steady rate, from caches and from the database, before and while a million sessions that are over are
        cleared away."""
        self.machine.create_database("cleanup")
        nodes = {"caches": Sessiond(self.machine, "cleanup"), "database": Sessiond(self.machine, "cleanup", near_entries=0, redis=False)}
        log = self.machine.dir / "h2load.log"
        reads = {name: (node.port, *self.callers(node, 1)[0]) for name, node in nodes.items()}
        self.seed("cleanup", 1_000_000, 100_000, expired=True)
        p99 = lambda name, seconds: at_rate(*reads[name], 1000, seconds, log)["p99_us"]
        before = {name: statistics.median(p99(name, 10) for _ in range(3)) for name in reads}
        rows = lambda: int(self.machine.sql("cleanup", "SELECT count(*) FROM sessions"))
        began, left = time.monotonic(), rows()
        environment = {"SESSIOND_STORE__URL": self.machine.postgres_url("cleanup"), "SESSIOND_CLEANUP__RETENTION": "1d"}
        cleaning = self.machine.start([ROOT / "target/release/sessiond", "cleanup"], cwd=self.machine.dir, env=environment)
        during = {name: [] for name in reads}
        while cleaning.poll() is None:
            for name, samples in during.items():
                samples.append(p99(name, 5))
        took = time.monotonic() - began
        self.machine.processes.remove(cleaning)
        assert cleaning.returncode == 0 and rows() < left / 2
        for node in nodes.values():
            node.stop()
        p99_us = {name: {"before": before[name], "during": statistics.median(during[name])} for name in reads}
        return {"p99_us": p99_us, "seconds": took, "deleted": left - len(reads)}

    def start(self):
        """From the start of the process to its first ready answer, embedded; its memory then, and the size of the binary."""
        times, resident = [], []
        for _ in range(self.rounds * 2):
            node = Sessiond(self.machine, None, redis=False)
            times.append(node.ready_after * 1000)
            time.sleep(1)
            resident.append(node.resident() / 2**20)
            node.stop()
        return {"ms": statistics.median(times), "resident_mib": statistics.median(resident),
                "binary_mib": (ROOT / "target/release/sessiond").stat().st_size / 2**20}

    def micro(self):
        """The handler over ports in memory and other parts of a read, and what an entry of the near cache takes, of a million."""
        run("cargo", "bench", "-q", "-p", "sessiond-bench", "--bench", "read_path", cwd=ROOT)
        ns = {}
        for file in sorted((ROOT / "target/criterion").glob("**/new/estimates.json")):
            name = "/".join(json.loads((file.parent / "benchmark.json").read_text())["full_id"].split("/"))
            ns[name] = json.loads(file.read_text())["median"]["point_estimate"]
        memory = run("cargo", "bench", "-q", "-p", "sessiond-bench", "--bench", "near_cache_memory", cwd=ROOT)
        return {"ns": ns, **json.loads(memory.strip().split("\n")[-1])}


PARTS = ["near", "redis", "database", "peers", "start", "micro", "revoke_all", "activity", "cleanup", "growth"]


def machine_description():
    model = next(line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name"))
    cores = sum(line.startswith("processor") for line in open("/proc/cpuinfo"))
    memory = int(open("/proc/meminfo").readline().split()[1]) / 2**20
    versions = [run("redis-server", "--version").split()[2].removeprefix("v="), run("node", "--version").strip(), platform.python_version()]
    postgres = run(sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"))[-1] / "postgres", "--version").split()[2]
    return (f"{model}, {cores} cores, {memory:.0f} GiB, Linux {platform.release().split('-')[0]}; PostgreSQL {postgres}, Redis {versions[0]}, "
            f"Node {versions[1]}, Python {versions[2]}, {run('rustc', '--version').strip()}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"which measurements, of {', '.join(PARTS)}; all if none is named")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each, besides the first, which only warms")
    parser.add_argument("--seconds", type=int, default=5, help="of each turn")
    parser.add_argument("--rows", type=int, default=10_000_000, help="of the large table")
    arguments = parser.parse_args()
    file = HERE / "results.json"
    results = json.loads(file.read_text()) if file.exists() else {}
    results |= {"machine": machine_description(), "rounds": arguments.rounds, "seconds": arguments.seconds}
    for part in arguments.parts or PARTS:
        began = time.monotonic()
        bench = Bench(arguments)
        result = getattr(bench, part)()
        bench.machine.close()
        results[part] = result
        file.write_text(json.dumps(results, indent=2) + "\n")
        print(f"{part} ({time.monotonic() - began:.0f} s)\n{json.dumps(result, indent=2)}", flush=True)
    report.write(results)


if __name__ == "__main__":
    main()
