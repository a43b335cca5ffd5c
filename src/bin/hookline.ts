#!/usr/bin/env node
// SPDX-License-Identifier: Apache-2.0
// The command `hookline`.
import { main } from "../cli/main.ts";

process.exitCode = await main(process.argv);
