// SPDX-License-Identifier: Apache-2.0
// Programs and shells inside a member of the lab, on the user's terminal.
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Member } from "./member.ts";
import type { LabPlan } from "./plan.ts";
import { outcomeOf, spawnAt } from "./spawn.ts";

/** Ctrl-C is for the program on the terminal, not for us who wait for it. */
async function ignoringInterrupts<T>(wait: () => Promise<T>): Promise<T> {
  const ignore = (): void => undefined;
  process.on("SIGINT", ignore).on("SIGQUIT", ignore);
  try {
    return await wait();
  } finally {
    process.off("SIGINT", ignore).off("SIGQUIT", ignore);
  }
}

/** Runs `argv` inside with our standard streams; gives its exit status. */
export async function execIn(member: Member, argv: string[]): Promise<number> {
  const { status } = await ignoringInterrupts(() =>
    outcomeOf(spawnAt(member.place, argv, { env: member.env, stdio: "inherit" })),
  );
  return status;
}

/** An interactive shell inside, whose prompt says where it is and whose `hookline` means this node. */
export async function shellIn(plan: LabPlan, member: Member): Promise<number> {
  const prompt = `[${plan.name} ${member.name}] # `;
  const bash = ["/bin/bash", "/usr/bin/bash"].find((path) => existsSync(path));
  const env = { ...member.env, PS1: prompt };
  if (bash === undefined) return execIn({ ...member, env }, ["/bin/sh", "-i"]);
  const rc = join(plan.stateDir, "bin", "shell.rc");
  writeFileSync(rc, 'PS1="[$HOOKLINE_LAB $HOOKLINE_MEMBER] # "\n');
  return execIn({ ...member, env }, [bash, "--noprofile", "--rcfile", rc, "-i"]);
}
