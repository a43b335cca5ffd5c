// SPDX-License-Identifier: Apache-2.0
// Makes the machine ready for `npm run lab` or `npm test` and says each thing that it installs; silent when nothing is
// missing. When things cannot work it says in one line each what is wrong and what to do, and ends with status 1.
// Usage: setup.ts lab|test|kernels|bench|all (started by setup.sh, which brings the npm packages)
import { installMissing, thisApt } from "./setup/apt.ts";
import { obstacles, thisHost } from "./setup/host.ts";
import { missing, thisMachine } from "./setup/needs.ts";

const say = (line: string): void => console.log(`setup: ${line}`);

function setup(purpose: string): number {
  const wrong = obstacles(thisHost());
  for (const line of wrong) say(line);
  if (wrong.length > 0) return 1;
  const needs = missing(purpose, thisMachine());
  if (needs.length === 0) return 0;
  const outcome = installMissing(needs, thisApt(), say);
  for (const line of outcome.lines) say(line);
  if (outcome.failed) return 1;
  const still = missing(purpose, thisMachine()).filter((need) => need.optional === undefined);
  for (const need of still)
    say(`${need.name} is still missing after the installation: install it by hand (${need.why})`);
  return still.length === 0 ? 0 : 1;
}

process.exitCode = setup(process.argv[2] ?? "all");
