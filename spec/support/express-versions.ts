import express from 'express'
import { isLong } from './scale.ts'

/** Supported major versions of Express, for `describe.each`. */
export const EXPRESS_VERSIONS: readonly (readonly [name: string, factory: typeof express])[] = [
  ['Express 4', require('express4') as typeof express],
  ['Express 5', express],
]

/** The newest version at every change, and both in the long run. Use it for slow specs that depend little on Express. */
export const SOME_EXPRESS_VERSIONS = isLong ? EXPRESS_VERSIONS : EXPRESS_VERSIONS.slice(-1)
