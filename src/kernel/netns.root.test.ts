// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, mkdtempSync, readlinkSync, rmdirSync } from "node:fs";
import { createServer, Socket } from "node:net";
import { tmpdir } from "node:os";
import { test } from "node:test";
import {
  cgroupProcesses,
  findCgroup2,
  isBpffs,
  makeCgroup,
  mountBpffs,
  removeCgroup,
  unmount,
} from "./mount.ts";
import { createNetns, listNetns, openNetns, removeNetns, withNetns } from "./netns.ts";
import { connectFd, listenFd } from "./socket.ts";

const suffix = randomBytes(3).toString("hex");

test("a namespace is made, entered, left and removed", () => {
  const name = `hlt-${suffix}-a`;
  const home = readlinkSync("/proc/thread-self/ns/net");
  const netns = createNetns(name);
  try {
    assert.ok(listNetns().includes(name));
    const inside = withNetns(netns, () => readlinkSync("/proc/thread-self/ns/net"));
    assert.equal(inside, `net:[${netns.inode}]`);
    assert.notEqual(inside, home);
    assert.throws(
      () =>
        withNetns(name, () => {
          throw new Error("x");
        }),
      /x/,
    );
    assert.equal(readlinkSync("/proc/thread-self/ns/net"), home);
    assert.throws(() => createNetns(name), { code: "EEXIST" });
    const child = withNetns(netns, () =>
      execFileSync("readlink", ["/proc/self/ns/net"], { encoding: "utf8" }),
    );
    assert.equal(child.trim(), inside);
  } finally {
    netns.close();
    assert.ok(removeNetns(name));
  }
  assert.ok(!removeNetns(name));
  assert.throws(() => openNetns(name), { code: "ENOENT" });
});

test("sockets made inside speak there", async () => {
  const name = `hlt-${suffix}-b`;
  using netns = createNetns(name);
  try {
    withNetns(netns, () => execFileSync("ip", ["link", "set", "lo", "up"]));
    for (const host of ["127.0.0.1", "::1"]) {
      const server = createServer((socket) => socket.end("hello"));
      const port = 8080;
      await new Promise<void>((done) => server.listen({ fd: listenFd({ netns, host, port }) }, done));
      const socket = new Socket({ fd: connectFd({ netns, host, port }), readable: true, writable: true });
      const text = await new Promise<string>((done, failed) => {
        let all = "";
        socket.on("data", (part) => (all += part));
        socket.on("end", () => done(all));
        socket.on("error", failed);
        socket.resume();
      });
      assert.equal(text, "hello");
      server.close();
      socket.destroy();
    }
    assert.throws(() => listenFd({ netns, host: "192.0.2.1", port: 80 }), {
      detail: "socket.bind EADDRNOTAVAIL 192.0.2.1 port 80",
    });
  } finally {
    removeNetns(name);
  }
});

test("a bpffs is mounted once and unmounted", () => {
  const path = mkdtempSync(`${tmpdir()}/hlt-bpffs-`);
  try {
    assert.ok(!isBpffs(path));
    mountBpffs(path);
    mountBpffs(path);
    assert.ok(isBpffs(path));
    assert.ok(unmount(path));
    assert.ok(!unmount(path));
  } finally {
    rmdirSync(path);
  }
});

test("a cgroup tree is removed with the processes in it", async () => {
  const path = `${findCgroup2()}/hlt-${suffix}`;
  makeCgroup(`${path}/inner`);
  const { spawn } = await import("node:child_process");
  const child = spawn("sh", ["-c", `echo $$ > ${path}/inner/cgroup.procs && exec sleep 60`]);
  const ended = new Promise<string | null>((done) => child.on("exit", (_, signal) => done(signal)));
  while (!cgroupProcesses(path).includes(child.pid ?? 0)) await new Promise((next) => setTimeout(next, 5));
  await removeCgroup(path, { kill: true });
  assert.equal(await ended, "SIGKILL");
  assert.ok(!existsSync(path));
  await removeCgroup(path);
});
