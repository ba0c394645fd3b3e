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

/** Returns true in the long run if Chromium is installed, and warns if it is not. Chromium takes seconds to start. */
export function hasChromium(what: string): boolean {
  if (!isLong) return false
  const isThere = existsSync(CHROMIUM) || process.env['CI'] === 'true'
  if (!isThere) console.warn(`${what} are skipped: there is no ${CHROMIUM}`)
  return isThere
}

export async function launchChromium(): Promise<Browser> {
  // The module is loaded only on use, because loading it takes longer than most specs.
  const { chromium } = await import('playwright-core')
  return chromium.launch({ executablePath: CHROMIUM, args: ARGS })
}
