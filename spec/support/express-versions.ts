import express from 'express'
import { isLong } from './scale.ts'

/** The two majors of Express that the package supports, for `describe.each`. */
export const EXPRESS_VERSIONS: readonly (readonly [name: string, factory: typeof express])[] = [
  ['Express 4', require('express4') as typeof express],
  ['Express 5', express],
]

/** The newest alone at every change, and both in the long run: for specs that take long, of what depends little on Express. */
export const SOME_EXPRESS_VERSIONS = isLong ? EXPRESS_VERSIONS : EXPRESS_VERSIONS.slice(-1)
