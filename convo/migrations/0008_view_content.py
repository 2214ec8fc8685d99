from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('convo', '0007_pages'),
    ]

    operations = [
        migrations.AlterModelOptions(
            name='message',
            options={'permissions': [('view_content', 'Can read what people said')]},
        ),
        migrations.AddIndex(
            model_name='person',
            index=models.Index(fields=['ref'], name='person_by_ref'),
        ),
        migrations.AddIndex(
            model_name='session',
            index=models.Index(fields=['-last_activity', '-id'], name='session_newest'),
        ),
        migrations.AddIndex(
            model_name='session',
            index=models.Index(condition=models.Q(('ref__isnull', False)), fields=['ref'], name='session_by_ref'),
        ),
        migrations.AddIndex(
            model_name='usermemory',
            index=models.Index(condition=models.Q(('status', 'needs_review')), fields=['-id'], name='memory_to_review'),
        ),
    ]
