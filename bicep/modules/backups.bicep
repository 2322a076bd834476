// The backups of MySQL, in a storage account.

@description('Name of the account.')
param storageAccount string

@description('Object id of the identity that writes backups.')
param writerPrincipalId string

@description('Days that a backup is kept.')
param backupDays int

var blobDataContributor = 'ba92f5b4-2d11-453d-a403-e96b0029c9fe'

resource account 'Microsoft.Storage/storageAccounts@2024-01-01' existing = {
  name: storageAccount
}

resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2024-01-01' existing = {
  parent: account
  name: 'default'
}

resource backups 'Microsoft.Storage/storageAccounts/blobServices/containers@2024-01-01' = {
  parent: blobs
  name: 'mysql-backups'
}

resource lifecycle 'Microsoft.Storage/storageAccounts/managementPolicies@2024-01-01' = {
  parent: account
  name: 'default'
  properties: {
    policy: {
      rules: [
        {
          name: 'old-backups'
          type: 'Lifecycle'
          definition: {
            filters: {
              blobTypes: ['blockBlob']
              prefixMatch: ['${backups.name}/']
            }
            actions: {
              baseBlob: { delete: { daysAfterCreationGreaterThan: backupDays } }
            }
          }
        }
      ]
    }
  }
}

resource backupRole 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(backups.id, 'backup', blobDataContributor)
  scope: backups
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', blobDataContributor)
    principalId: writerPrincipalId
    principalType: 'ServicePrincipal'
  }
}
