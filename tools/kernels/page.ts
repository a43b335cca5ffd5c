import type { Features } from "../../src/kernel/features.ts";
import type { Kernel } from "./packages.ts";
export interface KernelReport {
  kernel: Kernel;
  features?: Features;
  instructions: Record<string, number>;
  passed: number;
  complete: boolean;
}
export function writePage(r: KernelReport[]): string {
  return JSON.stringify(r);
}
