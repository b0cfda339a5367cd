export { Batch, EventsDeletedError, follow, type FollowOptions, type OfTransactions } from './follow.js';
export { connect, read, types } from './read.js';
export type * from './tables.js';
