import { existsSync } from 'node:fs'
import type { Browser } from 'playwright-core'
import { isLong } from './scale.ts'

const CHROMIUM = '/usr/bin/chromium'
const ARGS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]

/** Whether the long run tests with Chromium: it takes seconds to start. Without one, the tests are skipped, and it says so. */
export function hasChromium(what: string): boolean {
  if (!isLong) return false
  const isThere = existsSync(CHROMIUM) || process.env['CI'] === 'true'
  if (!isThere) console.warn(`${what} are skipped: there is no ${CHROMIUM}`)
  return isThere
}

export async function launchChromium(): Promise<Browser> {
  // Loaded where there is a Chromium: it takes longer than most specs.
  const { chromium } = await import('playwright-core')
  return chromium.launch({ executablePath: CHROMIUM, args: ARGS })
}
